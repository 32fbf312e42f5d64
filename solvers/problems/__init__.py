"""What is asked and answered: problems, domains, budgets, results and the words of both."""
