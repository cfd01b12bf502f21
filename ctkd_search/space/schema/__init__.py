"""The reference of a space, as JSON Schema and as tables, made from the declarations that the reader uses."""
