"""How text is read: normal forms, canonical URLs, language, near-duplicate signatures."""
