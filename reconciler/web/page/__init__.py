"""
The operators' page: what the API shows, as pages for people, and forms for what they may do.

Each subject has a module that asks the same functions as the API and hands their shapes to a template; what a template
shows that a shape does not say (marks, plots, words) is computed by pure functions beside it. Everything is rendered
here, so that it can be read and used without JavaScript. Jinja stays inside this package. Nothing is decided here.
"""
