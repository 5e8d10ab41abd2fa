"""Where ranks go: a node's topology, the rank map of a request, and the same map in every launcher's own
words.
"""
