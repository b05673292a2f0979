"""Writes models/tiny/prompts.txt and prompts-heldout.txt: openings of film reviews, made by combining parts.

No opening is in both files, and none says whether the film was liked.
"""
import itertools
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "models" / "tiny"

THINGS = ["movie", "film", "story", "plot", "acting", "cast", "script", "ending", "music", "dialogue", "director",
          "main character", "first half", "second half", "camera work", "lead actor", "soundtrack", "whole thing"]
VERBS = ["is", "was", "has", "seems to be", "turned out to be", "made me feel"]
SEEN = ["I saw", "I watched", "I rented", "We saw", "My friend and I watched", "I just finished watching"]
WORKS = ["this movie", "this film", "this one", "it"]
WHEN = ["last night", "yesterday", "on DVD", "on TV", "with my family", "in the theater", "when I was a kid"]
AFTER = ["and I thought", "and it was", "and I have to say", "because"]
ALONE = ["If you like this kind of film,", "As a fan of the book,", "From the first scene to the last,", "To be honest,",
         "All in all,", "Well,", "In my opinion,", "What can I say about", "There is a scene where", "It is about a man who",
         "It is about a woman who", "The film tells the story of", "Set in the 1950s,", "Let me start by saying",
         "I had never heard of this", "When it came out,", "Based on a true story,", "The director of this film",
         "Before I saw this,", "Most people I know", "I don't usually write reviews, but", "One thing about this movie:",
         "The two main actors", "For those who have not seen it,"]

openings = [f"The {thing} {verb}" for thing, verb in itertools.product(THINGS, VERBS)]
openings += [f"{seen} {work} {when} {after}" for seen, work, when, after in itertools.product(SEEN, WORKS, WHEN, AFTER)]
openings += ALONE
openings = sorted(set(openings))
# A third, a quarter and a half of each kind would all do; every seventh line takes some of each.
heldout = openings[::7]
train = [line for line in openings if line not in set(heldout)]
# Enough held-out prompts for a mean, few enough for a demo.
heldout = heldout[:: max(1, len(heldout) // 128)][:128] if len(heldout) > 160 else heldout
(OUT / "prompts.txt").write_text("\n".join(train) + "\n")
(OUT / "prompts-heldout.txt").write_text("\n".join(heldout) + "\n")
print(len(train), "training prompts,", len(heldout), "held out")
