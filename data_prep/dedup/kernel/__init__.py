"""C++ sources of `_kernel`, which `setup.py` compiles, and the generator of its Unicode table."""
