"""
An independent OData v4 server, SAP's CAP: what it does by itself (`test_cap_facts`), and the dialect `wrs` against it.

What lives here: getting, starting and stopping CAP, its model, and the tests that need it. What never does: anything
that another test builds on.
"""
