"""The presentation tier, with the V of MVC: all that a visitor gets to see.

Pages and their templates, the part of the list that a page shows, the style sheet, and the todo.txt
format. It knows what a todo is, but no SQL.
"""
