"""The server: waitress, which calls the application for each request, and what starts and stops it.

It serves any WSGI application, and knows no pages and no SQL.
"""
