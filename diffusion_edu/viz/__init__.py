"""Pictures without a browser. Nothing here uses pyplot: figures are drawn by Agg, in any thread.

    scene          what an explorer shows, as plain data
    scene_figure   scenes drawn by matplotlib: posters, and the view without anywidget
    figures        plain figures of points

Import the module you need: matplotlib is loaded by the last two only.
"""

__all__: list[str] = []
