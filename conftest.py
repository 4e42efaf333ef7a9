"""Of all tests: drills, which take longer than `make test` may, are left out unless `-m` names them."""


def pytest_collection_modifyitems(config, items):
    """Take drills out of the tests that are to run."""
    if "drill" not in config.getoption("markexpr"):
        left_out = [item for item in items if item.get_closest_marker("drill")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
