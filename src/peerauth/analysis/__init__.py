"""What people are told about policies before and after they act: explanations and findings.

Pure: values in, values out. Precedence stays in `policy/`; what is said here comes from the decisions' own reasons.
"""
