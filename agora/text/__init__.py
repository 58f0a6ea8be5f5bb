"""How text is read: normal forms, language, near-duplicate signatures."""
