"""What it means: the story of a request in nine parts, told from its trace.

parts.py      the nine parts
lessons.py    things that learners get wrong, where a request demonstrates them
document.py   what a story is made of: elements of HTML
curl.py       the same request as a curl command
"""
