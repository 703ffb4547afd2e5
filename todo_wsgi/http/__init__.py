"""HTTP: a request, its route, the response, and the errors that become one. Knows no todo."""
