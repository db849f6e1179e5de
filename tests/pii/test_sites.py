import itertools
import re

import pytest

from pii.sites import find_sites, names_left
from pii.spans import Span


def found(text):
    return {(site.label, text[site.start : site.end]) for site in find_sites(text)}


@pytest.mark.parametrize(
    ("line", "label", "value"),
    [
        ("# Lena Novak <lena@novak.cz>", "NAME", "Lena Novak"),
        ("# Łucja Żak <lucja@zak.pl>, 2019", "NAME", "Łucja Żak"),
        ("# Мария Лесная <ml@les.ru>", "NAME", "Мария Лесная"),
        ("# Mateja <mateja@zak.pl>, 2019", "NAME", "Mateja"),
        ("Author: lena novak <lena@novak.cz>", "NAME", "lena novak"),
        ("/* Copyright (c) 2011-2014 Lena Novak */", "NAME", "Lena Novak"),
        ("__author__ = 'Lena Novak'", "NAME", "Lena Novak"),
        ("# Authors: Lena Novak, Tom Alby and Ida Roth", "NAME", "Ida Roth"),
        ("  [ Lena Novak ]", "NAME", "Lena Novak"),
        ("// TODO(lnovak): sort", "USERNAME", "lnovak"),
        ("cd /home/lnovak/src", "USERNAME", "lnovak"),
        ("* Fix the build by @lnovak", "USERNAME", "lnovak"),
        ("https://github.com/lnovak/parser", "USERNAME", "lnovak"),
        ("$Id: x.c,v 1.2 2002/07/09 05:29:51 lnovak Exp $", "USERNAME", "lnovak"),
        ("db_user: 'lnovak'", "USERNAME", "lnovak"),
        ("password = 'Tulip77'", "PASSWORD", "Tulip77"),
        ("ftp_password=Tulip77", "PASSWORD", "Tulip77"),
        ("mysql://lnovak:Tulip77@db.zak.pl/x", "PASSWORD", "Tulip77"),
        ("api_key: 'a8f3k29dk3ls0'", "KEY", "a8f3k29dk3ls0"),
        ("server 93.184.216.34;", "IP_ADDRESS", "93.184.216.34"),
    ],
)
def test_a_site_is_found(line, label, value):
    assert (label, value) in found(f"import os\n{line}\nx = 1\n")


@pytest.mark.parametrize(
    "line",
    [
        "# Copyright (c) 2011 Mountain Software Inc",
        "# Copyright 2011 Lena Weber Consulting GmbH",
        "https://github.com/parser/parser",
        "https://github.com/parser-org/parser",
        "label: 'password: Tulip77'",
        "api_key = 'parser-config-name'",
        "@property",
        "version = '1.2.3.4567'",
    ],
)
def test_what_is_no_site_is_left_alone(line):
    assert found(f"import os\n{line}\nx = 1\n") == set()


def test_a_window_is_left_out_where_an_author_would_be_unlabelled():
    text = "# Authors: Lena Novak\n#   with Tom Alby\n"
    spans = find_sites(text)

    assert not names_left(text, spans)
    assert names_left(text, [])
    assert names_left("From: =?utf-8?q?Zo=C3=AB?= <z@zak.pl>\n", [])
    assert not names_left("class ParserConfig: Lena Novak\n", [])
    assert not names_left("# Copyright 2011 Mountain Software Inc\n", [])


def test_sites_are_sorted_and_do_not_overlap():
    text = "Lena Novak <lena@novak.cz>, password='Tulip77' # TODO(lnovak)\n" * 5
    sites = find_sites(text)

    assert len(sites) == 20
    assert all(a.end <= b.start for a, b in itertools.pairwise(sites))
    assert all(re.fullmatch(r"(site|pattern):[\w-]+", site.source) for site in sites)
    assert all(isinstance(site, Span) for site in sites)
