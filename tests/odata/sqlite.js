// The SQLite that is WebAssembly, in the shape in which @cap-js/sqlite expects its own.

const sqlite = require.resolve('better-sqlite3') // which package.json makes node-sqlite3-wasm
const { Database } = require(sqlite)

class Statement {
  #asArrays = false

  constructor(database, sql) {
    this.database = database
    this.sql = sql
  }

  raw(asArrays) {
    this.#asArrays = asArrays
    return this
  }

  run(values) {
    return this.database.run(this.sql, values)
  }

  get(values) {
    return this.all(values)[0]
  }

  all(values) {
    const rows = this.database.all(this.sql, values)
    return this.#asArrays ? rows.map(Object.values) : rows
  }

  *iterate(values) {
    yield* this.all(values)
  }
}

class Connection {
  memory = true
  #database

  constructor(file) {
    this.#database = new Database(file)
  }

  get open() {
    return this.#database.isOpen
  }

  prepare(sql) {
    return new Statement(this.#database, sql)
  }

  exec(sql) {
    this.#database.exec(sql)
  }

  function(name, ...given) {
    const implementation = given.pop()
    this.#database.function(name, implementation, given[0])
  }

  pragma(words) {
    return this.#database.all(`PRAGMA ${words}`)
  }

  close() {
    this.#database.close()
  }
}

require.cache[sqlite].exports = Connection
