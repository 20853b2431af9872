"""gramcli: classify sounds with every layer of a trained CNN.

Importing the package loads neither torch nor h5py; the stages do, when they are called.
"""

__version__ = "0.1.0"
