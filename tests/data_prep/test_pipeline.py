from data_prep.command import STAGES as SUBCOMMANDS
from data_prep.pipeline import STAGES


def test_every_stage_is_a_subcommand_in_its_order() -> None:
    assert list(SUBCOMMANDS) == ["run", *(stage.name for stage in STAGES)]
