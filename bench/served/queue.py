"""The queue with an empty method beside its own: `python -m bench.served.queue`."""

from bench.served import serve_beside

if __name__ == "__main__":
    serve_beside("services.queue")
