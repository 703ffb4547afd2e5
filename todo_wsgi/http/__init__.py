"""HTTP, the ground below the tiers: request, routing, response, and the errors that become one.

Nothing here knows what a todo is. The whole folder would serve any other application.
"""
