"""Figures as Plotly drawings: pure, from numbers to a picture. Amounts become fractions of a dollar
only here, to be drawn; what a pointer reads off a drawing is exact."""
