"""What a network costs on a chip: the words, JSON and page of ``hil estimate``, and what writing it takes."""
