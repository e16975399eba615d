"""An HTTP gateway in front of the same service, and the built editor.

Endpoints speak gRPC to the server of the same process through a private socket, so that a browser passes the same
edge, the same checks and the same limits as every other caller; nothing is validated twice. Begin with ``app``.
"""
