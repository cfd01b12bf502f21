"""The reference of a space, as JSON Schema and as tables, made from the very declarations that the reader goes by."""
