from data_prep.decontaminate.cut import pieces
from data_prep.recipe.decontaminate import Decontaminate

RULES = Decontaminate(characters=3, min_characters=4)


def test_to_the_sentence_end_on_both_sides() -> None:
    text = "First one. Second has the MATCH in it! Third? Fourth."
    at = text.index("MATCH")
    assert pieces(text, [(at, at + 5)], RULES) == ["First one.", "Third? Fourth."]


def test_a_match_in_what_has_been_cut_is_gone() -> None:
    text = "Start of it all. A match and another one. The end of it."
    first, second = text.index("match"), text.index("another")
    assert pieces(text, [(second, second + 7), (first, first + 5)], RULES) == ["Start of it all.", "The end of it."]


def test_of_two_at_one_place_the_longer_counts() -> None:
    text = "Keep this here. Well. Two words. More words. And keep this."
    at = text.index("Two")
    assert pieces(text, [(at, at + 3), (at, text.index("More") + 4)], RULES) == ["Keep this here.", "And keep this."]


def test_short_pieces_are_dropped_and_all_may_be() -> None:
    assert pieces("Ab. The match. Long enough this is.", [(4, 13)], RULES.model_copy(update={"characters": 0})) == [
        "Long enough this is."
    ]
    assert pieces("no sentence ends around the match here", [(10, 20)], RULES) == []
    assert pieces("", [], Decontaminate(min_characters=0)) == []
