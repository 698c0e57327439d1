// CAP as it is, but on loopback alone, and with a SQLite that needs no compiler.

require('./sqlite')
const cds = require('@sap/cds')
const express = require('express')

module.exports = options => {
  const app = express()
  app.listen = port => express.application.listen.call(app, port, '127.0.0.1')
  cds.once('listening', ({ server }) => console.log(`port ${server.address().port}`))
  return cds.server({ ...options, app })
}
