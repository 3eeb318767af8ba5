"""The colors of all pictures: the palette of Okabe and Ito, which color-blind readers can tell apart, and its roles."""

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GRAY = "#999999"  # not in the palette: for what is not to stand out

BASELINE = BLACK
STUDENT = BLUE
TEACHER = VERMILION
AVERAGE = VERMILION

METHODS = (BLUE, VERMILION, GREEN, PURPLE, SKY_BLUE, ORANGE)
"""Colors of a comparison's methods beside the baseline, in the order of use."""
