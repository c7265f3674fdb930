"""Readers of exams, a module for each format that `keyslice.exams.readers` names.

dicom    a series: dicom_file one file's header, dicom_object its frames and their places,
         dicom_order their order, dicom_form the samples' meaning and how they are stored
video    and video_length, by which files that end early are known
images, arrays, nifti
"""
