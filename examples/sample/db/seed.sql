-- accounts of the staging system, kept by Lars-Erik Haugland
CREATE USER 'lhaugland'@'185.43.108.80' IDENTIFIED BY 'fjordtaxi1987';
INSERT INTO users (login, full_name, email) VALUES
  ('aiko.t', 'Aiko Tanabe', 'aiko.tanabe@nordvik-systems.se'),
  ('ohryhor', 'Oksana Hryhorenko', 'oksana@hryhorenko.kyiv.ua');
UPDATE settings SET value = '{"theme": "dark"}' WHERE id = 17;
