"""Every block of code in the documentation runs, every link leads somewhere, and every table agrees with the code."""
