"""The edge: what stands between the network and the servicers, the same in front of every runtime.

``guard`` (one floor up) is the interceptor; here are its parts: who calls (keys, tokens), how much they may ask for
(limits), what a call knows (calls), and the transport (tls).
"""
