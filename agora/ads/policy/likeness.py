"""TEMP"""
LIKENESS_REASON = "{rule}"
def nearest_rule(text, language):
    return None
