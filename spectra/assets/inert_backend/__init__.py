"""A folder for PYTHONPATH: its `setuptools` answers pip's one question about a source package and builds nothing."""
