"""Everything downstream of the predictions.

predictions    the table that all else is computed from
intervals      bootstrap over patients, paired differences
thresholds     from which probability an exam is positive
attended       what was kept, what it cost, whether the finding was in it
summary        metrics.json and confusion.json of one variant
published      figures of others
comparison     all variants side by side
candidate      which variant and seed is put forward
runs           training curves and warnings
palette, plots, where, contact_sheet
               figures: how they look, what is achieved, where samplers look, the frames themselves
presentation   the comparison as text, Markdown and a table for the terminal
report         the page
noninferiority, subgroups, calibration, criterion, criteria
               the gate: is a challenger fit to take the champion's place
"""
