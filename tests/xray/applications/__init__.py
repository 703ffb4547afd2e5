"""Small applications, each written as the documentation of its framework would write it.

Each module has the WSGI application `app`, and `create_database`, which creates in the working
directory what `app` needs.
"""
