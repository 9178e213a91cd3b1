"""Weights: the models on offer, getting their files, loading them safely.

* ``registry``: names, addresses, hashes, licences, thresholds;
* ``folders``: where files are kept;
* ``fetch``: find, download, or take a file the user has;
* ``checkpoint``: a file becomes a model, or one sentence says why not.
"""
