"""Rules for what may be loaded and what may be fetched, shared by every part that does either.

Owned here: the grammar of factory strings, the allow-list of factory prefixes, and `UrlPolicy`. Nothing here opens a
connection or imports the code it judges.
"""
