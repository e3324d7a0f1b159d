"""cento-tiny: the fictional encyclopedia, the sequences made from it, and the model.

Reading order: names.py (invented words, the train/held-out split), schema.py (what can be told and
asked), encyclopedia.py (entities, documents, questions), heldout.py (the question set in bench/qa),
sequences.py (token ids, masks, packing), model.py (the network), evaluate.py. The command that uses
them is tools/train_cento_tiny.py.
"""
