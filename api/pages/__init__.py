"""Pages: a web application for people, on the data and the keys of the API. Server-rendered, with htmx."""
