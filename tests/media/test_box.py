"""Boxes, on the command line and inside a picture."""

from __future__ import annotations

import pytest

from emo_rt.errors import FaceNotFoundError, PortraitError
from emo_rt.media.box import Box, parse_face_box
from emo_rt.media.face import given_face


class TestBox:
    def test_measures(self):
        box = Box(10, 20, 40, 80)
        assert (box.width, box.height, box.centre) == (30, 60, (25, 50))

    def test_moves(self):
        box = Box(10, 20, 40, 80)
        assert box.scaled(2) == Box(20, 40, 80, 160)
        assert box.scaled(2, 0.5) == Box(20, 10, 80, 40)
        assert box.shifted(-10, 5) == Box(0, 25, 30, 85)
        assert box.clipped(30, 50) == Box(10, 20, 30, 50)

    def test_a_box_outside_cannot_be_clipped(self):
        with pytest.raises(PortraitError, match="empty"):
            Box(10, 20, 40, 80).clipped(5, 100)

    @pytest.mark.parametrize("sides", [(5, 0, 5, 9), (9, 0, 5, 9), (0, 9, 5, 3)])
    def test_empty(self, sides):
        with pytest.raises(PortraitError, match="left < right and top < bottom"):
            Box(*sides)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_not_finite(self, bad):
        with pytest.raises(PortraitError, match="finite"):
            Box(0, 0, bad, 5)

    def test_parse_reads_what_str_writes(self):
        box = Box(1, 2.5, 30, 400)
        assert Box.parse(str(box)) == box
        assert Box.parse(" 1, 2.5 ,30,400 ") == box

    @pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4", "full"])
    def test_parse_says_what_it_wants(self, text):
        with pytest.raises(PortraitError, match="left,top,right,bottom in pixels") as caught:
            Box.parse(text)
        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize("text", ["3,3,1,9", "nan,0,1,1", "0,0,inf,1"])
    def test_parse_refuses_impossible_boxes(self, text):
        with pytest.raises(PortraitError):
            Box.parse(text)

    def test_the_command_line_also_takes_full(self):
        assert parse_face_box(" full") == "full"
        assert parse_face_box("1,2,3,4") == Box(1, 2, 3, 4)


class TestGivenFace:
    def test_it_is_cut_to_the_picture(self):
        assert given_face(100, 80, Box(5, 5, 50, 50)) == Box(5, 5, 50, 50)
        assert given_face(100, 80, Box(-20, -5, 50, 500)) == Box(0, 0, 50, 80)

    @pytest.mark.parametrize("box", [Box(200, 0, 300, 50), Box(0, -90, 50, -10), Box(95, 0, 300, 50), Box(1, 1, 4, 4)])
    def test_it_must_not_miss_the_picture(self, box):
        with pytest.raises(PortraitError, match="8x8 pixels inside the picture of 100x80") as caught:
            given_face(100, 80, box)
        assert not isinstance(caught.value, FaceNotFoundError)
