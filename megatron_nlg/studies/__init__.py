"""Studies made of ordinary training runs: the stability sweep and the speed ladder."""
