"""The front door: the script `retail-mart VERB`, also `python -m cli VERB`.

One file a group of verbs. It holds signatures, help and printing; what a verb does is imported when it is called.
"""
