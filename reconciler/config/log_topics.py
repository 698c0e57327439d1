"""What settings of the log's topics go together."""

from collections import Counter
from collections.abc import Iterator

from reconciler.config.in_the_clear import At, Given
from reconciler.model.topics import is_ours

_KEYS = ("topics", "topic", "decisions_topic", "outcomes_topic", "dead_letter_topic")


def contradictions(given: Given, at: At, *, one_said: bool) -> Iterator[str]:
    """Return what is wrong with topics that are each allowed; `one_said`: `topic` does not just have its default."""
    several = given("log", "topics")
    names = [one.name for one in several] or [given("log", "topic")]
    names += [given("log", key) for key in _KEYS[2:]]
    for name in (name for name, count in Counter(names).items() if count > 1):
        yield (
            f"{at('log', *_KEYS)}: {name} is named twice; change topics, decisions_topic, outcomes_topic and"
            " dead_letter_topic must all be different topics"
        )
    if several and one_said:
        yield f"{at('log', 'topic')}: give either log.topic or [[log.topics]], and list the one topic there to keep it"
    if several and given("log", "kind") == "file":
        yield f'{at("log", "topics")}: needs log.kind = "kafka": whoever may write to a file may write anything there'
    for glob in (glob for one in several for glob in one.sources if is_ours(glob)):
        yield f"{at('log', 'topics')}: {glob} is taken from log.decisions_topic only; leave it out"
