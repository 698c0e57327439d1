"""
Models: the rules of several replicas over one store, searched in every order in which things can happen.

Each model is a few dozen lines that say what may happen next in a small world: two replicas, one document, an edit, a
kill. `explore` visits every state that can be reached, so where a rule is missing it finds the shortest way to harm. A
model states rules, not code; the simulation (`tests/sim`) runs the code, in larger worlds and by chance.

    explore   the search
    writing   who may write, what a late write is taken for, who wins: one document, one field
    folding   positions and rows that two replicas fold at once
    limiting  the shares of the limit on requests in flight
    runs      which worlds are searched, which hold, and which rule each of the others leaves out

`make models` searches them all; `make test` those that take a moment.
"""
