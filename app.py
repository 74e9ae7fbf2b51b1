"""The application: configuration, each room's `init_app` in order, the routes. Imported by WSGI servers and tests alone."""

import tomllib
from pathlib import Path

import database
import errors
import observe
import wire
from routes.stuff import stuff
from routes.system import system

app = wire.Flask("stuff", root_path=str(Path(__file__).parent), static_folder=None)

app.config.update(
    VERSION=tomllib.loads(Path(app.root_path, "pyproject.toml").read_text())["project"]["version"],
    SCHEMA=1,  # the version of the schema that the queries need
    # the mission's words are `authorize` and `auth`, which FlaskSimpleAuth now calls `authz` and `authn`
    FSA_ALLOW_DEPRECATION=True,
    FSA_AUTH=["none"],
)
app.config.from_envvar("APP_CONFIG")

# hooks after a request run backwards: the first registered has the last word
errors.init_app(app)
observe.init_app(app)
wire.init_app(app)
database.init_app(app)

for blueprint in (system, stuff):
    app.register_blueprint(blueprint)
