"""Where one sees it: a story in the browser and in the terminal.

terminal.py     the story as text
pages.py        the story as HTML, with picture.py and xray.css
viewer.py       the x-ray's web site: access control, routing, and a second waitress
"""
