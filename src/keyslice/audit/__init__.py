"""The audit report of a model's version: one page that needs nothing else, and the same as JSON.

    subject      what is asked: the version, the events, its package, the exams of its data
    identity, data, training, evaluation, gate, decisions, drift, checks, records
                 a part of the page each: a function from the subject to plain JSON
    content      all parts together: what the JSON holds and the page shows
    evidence     what an audit can hold, where on the page it stands, and whether this one has it
    standards    what regulations and reporting guidelines ask for, and what answers it
    flow, figures, page
                 from the content to the HTML

No part holds a pseudonym, the name of a file that came in, or a pixel.
"""
