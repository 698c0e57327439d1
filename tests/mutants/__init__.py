"""
Mutation testing: small mistakes are made in the core on purpose, one at a time, and the tests must fail.

    make mutants                  200 chosen mutants and every bug of `bugs.py`
    make mutants N=0              the named bugs alone
    make mutants ARGS="--only core/planning/merge.py --show"

`operators.py` finds every mistake that can be made in a module, `choosing.py` takes some of them by a seed,
`bugs.py` names bugs that tests once missed, `running.py` runs the tests of each, and `planting.py` is the pytest plugin
that loads the mistaken source in place of the module. No file of the working tree is touched.

Why a tool of our own: mutmut 3 changes only what stands inside functions, and our decision table does not; cosmic-ray
rewrites the working tree.
"""
