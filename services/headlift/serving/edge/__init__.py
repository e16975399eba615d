"""The edge: what stands between the network and the servicers, the same in front of every runtime.

Read ``interceptor`` first; it uses who calls (auth, keys, tokens, tenancy), how much they may ask for (admission,
quotas, limits) and what a servicer knows of a call (call_context). ``tls`` is the transport.
"""
