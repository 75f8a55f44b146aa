"""A run as a service over HTTP: search, answers with citations, embeddings.

    with open_service(run, config) as service:
        Server(service).run()

`make_app(service)` is the ASGI application alone. All of it wants the extra `serve`.
"""
