"""What `crm lint` says of commits."""

from home_server.linting import odd_subjects


def test_subjects_that_do_not_say_type_verb_and_issue_are_named():
    good = [
        "feat: Quarantine orders that break the contract #12",
        "test: Wait for Airflow's login before the next page #7",
    ]
    odd = [
        "Quarantine orders #12",
        "feat: quarantine orders #12",
        "feat: Quarantine orders",
        "feat(lake): Quarantine orders #12",
        "feature: Quarantine orders #12",
        "feat: Quarantine #12",
    ]
    assert odd_subjects("\n".join([*good, *odd, "fix: Restart, remove and migrate only what is safe #4"])) == odd
