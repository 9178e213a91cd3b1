"""Train the built-in model from nothing, or fine-tune it, with the recipe of the SAM paper.

* `data`, `drawn`: labelled planes, read or drawn; `augment`, `examples`: batches of crops and prompts;
* `prompts`, `losses`, `step`: simulated people, and how wrong the answers are;
* `loop`, `checkpoint`, `metrics`: the run; `config`, `command`: one file, one command.
"""
