"""A tutorial in nine steps: from hello world to production. Begin with its README.md.

`python -m tutorial` starts and checks a step, and builds the pages:

    __main__.py   the command line: `start`, `check`, `build`
    building.py   puts code, differences and outputs into the pages
    running.py    starts a process on a copy of the learner's folder, and says how it ended
    inside.py     what that process does: run a check, or print an x-ray
    checks.py     what each check.py is written in: a site to ask, and answers to examine
"""
