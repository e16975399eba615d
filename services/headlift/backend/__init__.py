"""Where stages compute: in this process (``local``) or elsewhere (``remote``), behind one ``Backend``."""
