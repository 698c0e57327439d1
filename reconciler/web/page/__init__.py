"""
The operators' page: the API's data as HTML, with forms for actions.

Each module fetches views from the API's functions and passes them to a template; pure helpers add marks, plots and
wording. Pages work without JavaScript. Only this package uses Jinja. No decisions are made here.
"""
